// generate - a small engine for language models on lowrank's layers: what each mode does.
// SPDX-License-Identifier: MIT
#include "arguments.hpp"
#include "calibrate.hpp"
#include "chat.hpp"
#include "config.hpp"
#include "generation.hpp"
#include "interruption.hpp"
#include "language_model.hpp"
#include "perplexity.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "speed.hpp"
#include "tokenizer.hpp"
#include "utf8.hpp"

#include <command_line/output_path.hpp>
#include <command_line/standard_streams.hpp>
#include <lowrank/checkpoint/safetensors_writer.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/error.hpp>

#include <CLI/Error.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace engine;

constexpr int kUsageError = 2;
constexpr std::int64_t kMostTokens = 200;  // a paragraph or two

void warn_unknown(const std::filesystem::path& folder, const std::string& key) {
    std::cerr << "warning: " << (folder / "config.json").string() << ": " << key << " is not known and is ignored\n";
}

std::unique_ptr<LanguageModel> load(const std::filesystem::path& folder, const Arguments& arguments, Report& report) {
    const lowrank::Stopwatch watch;
    std::unique_ptr<LanguageModel> model = load_model(folder, arguments.type);
    report = describe(folder, *model);
    report.load_seconds = watch.seconds();
    for (const std::string& key : model->config().unknown) warn_unknown(folder, key);
    return model;
}

std::string read_all(std::istream& stream) {
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

/// The prompt's tokens, in the chat form where the model has one. `stops` gains the token that ends an answer.
std::vector<Token> prompt_tokens(Tokenizer& tokenizer, const std::filesystem::path& folder, const Arguments& arguments,
                                 const std::string& prompt, std::vector<std::int64_t>& stops) {
    const std::optional<ChatForm> chat = arguments.raw ? std::nullopt : ChatForm::load(folder);
    if (!chat) {
        if (arguments.system) throw lowrank::ValueError("--system needs a model with a chat template, without --raw");
        return tokenizer.encode(prompt, Frame::added);
    }
    const std::optional<Token> end = tokenizer.find(ChatForm::kEnd);
    if (!end) {
        throw lowrank::FormatError(lowrank::detail::path_text(folder) + ": the chat template's token " +
                                   ChatForm::kEnd + " is not in tokenizer.json; use --raw");
    }
    stops.push_back(*end);
    return tokenizer.encode(chat->render(prompt, arguments.system), Frame::none);
}

void print(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
}

Report write_text(const std::filesystem::path& folder, const Arguments& arguments, const std::string& prompt,
                  const lowrank::cpu::Context& context) {
    Report report;
    const auto model = load(folder, arguments, report);
    Tokenizer tokenizer = load_tokenizer(folder, model->config().vocabulary);
    GenerationOptions options;
    options.most_tokens = arguments.tokens.value_or(kMostTokens);
    options.sampling = arguments.sampling;
    options.stop_tokens = model->config().stop_tokens;
    options.interrupted = [] { return Interruption::signal() != 0; };
    const std::vector<Token> tokens = prompt_tokens(tokenizer, folder, arguments, prompt, options.stop_tokens);
    if (arguments.no_stop) options.stop_tokens.clear();
    Utf8Stream stream;
    const auto show = [&](const std::string& piece) {
        report.text += piece;
        print(piece);
    };
    if (!arguments.compare.empty()) print("== " + report.model + "\n");
    options.on_token = [&](Token token) {
        if (!tokenizer.is_special(token)) show(stream.add(tokenizer.bytes(token)));
    };
    report.generation = generate(*model, context, tokens, options);
    show(stream.finish());
    print("\n");
    if (report.generation->stop == StopReason::context_full) {
        std::cerr << "generate: stopped: the model's context of " << model->config().context << " tokens is full\n";
    }
    report.resident_bytes = resident_bytes();
    return report;
}

Report measure_perplexity(const std::filesystem::path& folder, const Arguments& arguments,
                          const lowrank::cpu::Context& context) {
    Report report;
    const auto model = load(folder, arguments, report);
    Tokenizer tokenizer = load_tokenizer(folder, model->config().vocabulary);
    const lowrank::MappedFile file(arguments.text);
    std::vector<Token> tokens = encode_file(tokenizer, file, Frame::none);
    const auto wanted = static_cast<std::size_t>(arguments.tokens.value_or(static_cast<std::int64_t>(tokens.size())));
    if (wanted > tokens.size()) {
        throw lowrank::ValueError(lowrank::detail::path_text(arguments.text) + ": has " +
                                  std::to_string(tokens.size()) + " tokens, fewer than the " + std::to_string(wanted) +
                                  " asked for");
    }
    tokens.resize(wanted);
    const lowrank::Stopwatch watch;
    Progress progress(arguments.quiet);
    if (tokens.size() < 2) {
        throw lowrank::ValueError(lowrank::detail::path_text(arguments.text) + ": a text of fewer than 2 tokens has " +
                                  "no perplexity");
    }
    report.perplexity = perplexity(*model, context, tokens, arguments.window, [&](std::int64_t done, double so_far) {
        char text[96];
        std::snprintf(text, sizeof(text), "%lld/%lld tokens, perplexity %.4f", static_cast<long long>(done),
                      static_cast<long long>(wanted), so_far);
        progress.show(static_cast<double>(done) / static_cast<double>(wanted), text);
        return Interruption::signal() == 0;
    });
    report.perplexity_seconds = watch.seconds();
    report.resident_bytes = resident_bytes();
    return report;
}

Report measure(const std::filesystem::path& folder, const Arguments& arguments, const lowrank::cpu::Context& context) {
    constexpr int kRepeats = 5;
    Report report;
    const auto model = load(folder, arguments, report);
    report.speed = measure_speed(*model, context, arguments.prefill, arguments.decode, kRepeats,
                                 [] { return Interruption::signal() == 0; });
    report.resident_bytes = resident_bytes();
    return report;
}

void write_logits(const Arguments& arguments, const lowrank::cpu::Context& context) {
    Report report;
    const auto model = load(arguments.model, arguments, report);
    const auto count = static_cast<std::int64_t>(arguments.ids.size());
    if (count > model->config().context) {
        throw lowrank::ValueError(std::to_string(count) + " ids exceed the model's context of " +
                                  std::to_string(model->config().context));
    }
    const auto session = model->start(context, {.capacity = count, .rows = std::min(count, kBatch)});
    lowrank::SafetensorsWriter file(arguments.logits, 1024);
    file.begin("logits", "F32",
               {static_cast<std::uint64_t>(count), static_cast<std::uint64_t>(model->config().vocabulary)});
    std::span<const Token> left(arguments.ids);
    while (!left.empty()) {
        const auto piece = left.first(std::min(left.size(), static_cast<std::size_t>(session->rows())));
        session->feed(piece);
        const auto rows = static_cast<std::int64_t>(piece.size());
        for (std::int64_t first = 0; first < rows; first += Session::kMostLogits) {
            const auto logits = session->logits(first, std::min(Session::kMostLogits, rows - first));
            file.write(
                std::as_bytes(std::span(logits.data(), static_cast<std::size_t>(logits.rows() * logits.cols()))));
        }
        left = left.subspan(piece.size());
    }
    file.commit();
}

void write_statistics(const Arguments& arguments, const lowrank::cpu::Context& context) {
    if (!arguments.force && std::filesystem::exists(arguments.output)) {
        throw lowrank::ValueError(lowrank::detail::path_text(arguments.output) +
                                  ": exists already, and is replaced only on request (--force)");
    }
    const lowrank::Stopwatch watch;
    const ModelConfig config = read_config(arguments.model);
    for (const std::string& key : config.unknown) warn_unknown(arguments.model, key);
    CalibrationSize size = arguments.calibration;
    size.window = arguments.window;
    size.tokens = arguments.tokens.value_or(size.tokens);
    Tokenizer tokenizer = load_tokenizer(arguments.model, config.vocabulary);
    const CalibrationText text = read_calibration_text(tokenizer, config, arguments.text, size);
    Progress progress(arguments.quiet);
    const StorageType type = arguments.type ? *arguments.type : calibration_type(context, arguments.model);
    const CalibrationResult result = calibrate(context, arguments.model, config, text, size, type, arguments.output,
                                               [&](const CalibrationProgress& at) {
                                                   progress.show(at.share, calibration_text(at));
                                                   return Interruption::signal() == 0;
                                               });
    progress.clear();
    if (!result.finished || arguments.quiet) return;
    std::fprintf(stderr, "%s: %lld layers, %lld tokens, %lld of them with gradients, %.1f s\n",
                 arguments.output.c_str(), static_cast<long long>(result.layers), static_cast<long long>(result.tokens),
                 static_cast<long long>(result.gradient_tokens), watch.seconds());
}

void print_ids(const std::vector<Token>& ids) {
    std::string line;
    for (const Token id : ids) {
        if (!line.empty()) line += ' ';
        line += std::to_string(id);
    }
    print(line + "\n");
}

void tokenize(const Arguments& arguments) {
    Tokenizer tokenizer(arguments.model);
    if (arguments.prompt) return print_ids(tokenizer.encode(*arguments.prompt, Frame::added));
    for (std::string line; std::getline(std::cin, line);) print_ids(tokenizer.encode(line, Frame::added));
}

void detokenize(const Arguments& arguments) {
    const Tokenizer tokenizer(arguments.model);
    for (std::string line; std::getline(std::cin, line);) {
        std::vector<Token> ids;
        const char* const end = line.data() + line.size();
        for (const char* at = line.data(); at < end;) {
            Token id = 0;
            const auto [next, error] = std::from_chars(at, end, id);
            if (error != std::errc{} || (next < end && *next != ' ')) {
                throw lowrank::ValueError("'" + line + "' is not a line of token ids");
            }
            if (id < 0 || id >= tokenizer.size()) {
                throw lowrank::ValueError("token " + std::to_string(id) + " is outside the vocabulary of " +
                                          std::to_string(tokenizer.size()));
            }
            ids.push_back(id);
            at = std::min(next + 1, end);
        }
        print(tokenizer.decode(ids) + "\n");
    }
}

/// The modes that report on one model, or on two.
void run_and_report(const Arguments& arguments, const lowrank::cpu::Context& context) {
    const std::string prompt = arguments.mode != Mode::text   ? ""
                               : arguments.prompt.has_value() ? *arguments.prompt
                                                              : read_all(std::cin);
    std::vector<Report> reports;
    for (const std::filesystem::path& folder : {arguments.model, arguments.compare}) {
        if (folder.empty() || Interruption::signal() != 0) continue;
        reports.push_back(arguments.mode == Mode::perplexity ? measure_perplexity(folder, arguments, context)
                          : arguments.mode == Mode::speed    ? measure(folder, arguments, context)
                                                             : write_text(folder, arguments, prompt, context));
    }
    const bool measured = arguments.mode != Mode::text || !arguments.compare.empty();
    if (measured && Interruption::signal() == 0) {
        if (arguments.mode == Mode::text) print("\n");
        print(report_table(reports));
    } else if (!measured && !arguments.quiet) {
        std::cerr << "\n" << report_table(reports);
    }
    if (!arguments.json.empty() && Interruption::signal() == 0) write_report(reports, context, arguments.json);
}

void run(const Arguments& arguments) {
    const std::vector<std::filesystem::path> taken{arguments.model, arguments.compare, arguments.text};
    command_line::require_free(arguments.json, "--json", taken);
    command_line::require_free(arguments.logits, "--logits", taken);
    command_line::require_free(arguments.output, "--output", taken);
    if (!arguments.compare.empty()) static_cast<void>(read_config(arguments.compare));  // before the first one's work
    if (arguments.mode == Mode::tokenize) return tokenize(arguments);
    if (arguments.mode == Mode::detokenize) return detokenize(arguments);
    const lowrank::cpu::Context context({.threads = arguments.threads});
    if (arguments.mode == Mode::logits) return write_logits(arguments, context);
    if (arguments.mode == Mode::calibrate) return write_statistics(arguments, context);
    run_and_report(arguments, context);
}

}  // namespace

int main(int argc, char** argv) {
    command_line::let_writes_fail();
    Arguments arguments;
    try {
        arguments = parse_arguments(argc, argv);
    } catch (const CLI::Success&) {
        return 0;
    } catch (const CLI::Error& error) {
        std::cerr << "generate: " << error.what() << "; see generate --help\n";
        return kUsageError;
    }
    try {
        const Interruption interruption;
        run(arguments);
    } catch (const std::exception& error) {
        std::cerr << "generate: " << error.what() << '\n';
        return 1;
    }
    if (Interruption::signal() != 0) {
        std::cerr << "generate: interrupted\n";
        return Interruption::kShellStatus + Interruption::signal();
    }
    return command_line::output_is_complete("generate") ? 0 : 1;
}
