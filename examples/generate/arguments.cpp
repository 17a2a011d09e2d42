// generate - the command line: options, help and examples.
// SPDX-License-Identifier: MIT
#include "arguments.hpp"

#include <command_line/validators.hpp>

#include <CLI/CLI.hpp>

#include <iostream>
#include <string>
#include <utility>

namespace engine {

namespace {

constexpr const char* kDescription =
    R"(Runs language models of the Llama and StableLM families from Hugging Face folders, as they were published or as
`compress` wrote them: lets them write, compares two of them, measures perplexity and speed, and collects the
statistics of a text that `compress --calibration` takes.)";

constexpr const char* kExamples = R"(
Without --prompt the prompt is read from standard input. A model with a chat template (ChatML) answers the prompt; with
--raw, or without a template, it continues it. Text goes to standard output, everything else to standard error.

Examples:
  generate SmolLM2 --prompt "Why is the sky blue?"
  generate SmolLM2 --raw --prompt "Once upon a time" --tokens 100 --temperature 0.8 --top-p 0.95 --seed 1
  generate SmolLM2 --compare smaller --prompt "Why is the sky blue?"
  generate SmolLM2 --perplexity text.txt --tokens 16384 --window 512 --json perplexity.json
  generate SmolLM2 --speed 512,128
  generate SmolLM2 --calibrate text.txt -o stats.safetensors
  generate SmolLM2 --calibrate text.txt -o stats.safetensors --tokens 65536 --gradient-tokens 16384 --window 1024
  generate SmolLM2 --ids 1,2,3 --logits logits.safetensors
  echo "Hello, world" | generate SmolLM2 --tokenize

Exit status: 0 success, 1 an error of the input or the system, 2 wrong usage, 130 interrupted.)";

void declare_text(CLI::App& app, Arguments& arguments) {
    app.add_option("--prompt", arguments.prompt, "what to answer or to continue");
    app.add_option("--system", arguments.system, "the chat's system text, instead of the template's");
    app.add_flag("--raw", arguments.raw, "continue the prompt as it is, without the chat template");
    app.add_flag("--no-stop", arguments.no_stop, "go on after a token that ends a text");
    app.add_option("--compare", arguments.compare, "a second model for the same prompt; both are timed");
    app.add_option("--tokens", arguments.tokens,
                   "most tokens to write (200), or to read for the perplexity (all) or the calibration (32768)")
        ->check(command_line::at_least(1));
    app.add_option("--temperature", arguments.sampling.temperature, "0 takes the most likely token, always (default)")
        ->check(command_line::number_within(0, 100, "a number from 0 to 100"));
    app.add_option("--top-p", arguments.sampling.top_p,
                   "choose among the likeliest tokens that together have this probability (1)")
        ->check(command_line::number_within(0, 1, "a number from 0 to 1"));
    app.add_option("--seed", arguments.sampling.seed, "of the random choice (0)");
}

void declare_measurements(CLI::App& app, Arguments& arguments, std::vector<std::int64_t>& speed) {
    app.add_option("--perplexity", arguments.text, "measure the perplexity of this text file");
    app.add_option("--window", arguments.window,
                   "tokens of the perplexity's or the calibration's text that see each other (512)")
        ->check(command_line::within(2, 1 << 30));
    app.add_option("--speed", speed, "measure the speed of reading P and writing N tokens: P,N")
        ->delimiter(',')
        ->expected(2)
        ->check(command_line::at_least(0));
    auto* ids = app.add_option("--ids", arguments.ids, "token ids, instead of a prompt, for --logits")
                    ->delimiter(',')
                    ->check(command_line::at_least(0));
    auto* logits = app.add_option("--logits", arguments.logits, "write the logits after each id, as safetensors");
    ids->needs(logits);
    logits->needs(ids);
}

void declare_calibration(CLI::App& app, Arguments& arguments, std::filesystem::path& text) {
    auto* calibrate = app.add_option("--calibrate", text,
                                     "run this text file through the model, forward and backward, and write what flows "
                                     "through its linear layers: statistics for compress --calibration");
    auto* output = app.add_option("-o,--output", arguments.output, "the statistics file to write (safetensors)");
    calibrate->needs(output);
    output->needs(calibrate);
    app.add_option("--gradient-tokens", arguments.calibration.gradient_tokens,
                   "tokens of the calibration with gradients too (16384); 0: none")
        ->check(command_line::at_least(0))
        ->needs(calibrate);
    app.add_flag("--force", arguments.force, "replace the statistics file if it is there already")->needs(calibrate);
}

Mode mode_of(const CLI::App& app, std::optional<StorageType> type) {
    Mode mode = Mode::text;
    std::string chosen;
    for (const auto& [option, value] : {std::pair("--perplexity", Mode::perplexity),
                                        {"--logits", Mode::logits},
                                        {"--tokenize", Mode::tokenize},
                                        {"--detokenize", Mode::detokenize},
                                        {"--speed", Mode::speed},
                                        {"--calibrate", Mode::calibrate}}) {
        if (app.count(option) == 0) continue;
        if (!chosen.empty()) throw CLI::ValidationError(chosen + " and " + option + " exclude each other");
        chosen = option;
        mode = value;
    }
    const bool comparable = mode == Mode::text || mode == Mode::perplexity || mode == Mode::speed;
    if (app.count("--compare") != 0 && !comparable) {
        throw CLI::ValidationError("--compare and " + chosen + " exclude each other");
    }
    if (mode != Mode::text && mode != Mode::tokenize && app.count("--prompt") != 0) {
        throw CLI::ValidationError("--prompt and " + chosen + " exclude each other");
    }
    if (mode == Mode::calibrate && type == StorageType::f16) {
        throw CLI::ValidationError("--calibrate computes in f32 or bf16, not in f16");
    }
    return mode;
}

}  // namespace

Arguments parse_arguments(int argc, char** argv) {
    CLI::App app(kDescription, "generate");
    Arguments arguments;
    std::vector<std::int64_t> speed;
    app.add_option("MODEL", arguments.model, "folder of the model: config.json, tokenizer.json, safetensors")
        ->required();
    declare_text(app, arguments);
    declare_measurements(app, arguments, speed);
    std::filesystem::path calibration_text;
    declare_calibration(app, arguments, calibration_text);
    app.add_flag("--tokenize")->description("print the token ids of the prompt or of each line of standard input");
    app.add_flag("--detokenize")->description("print the text of each line of token ids of standard input");
    app.add_option("--type", arguments.type,
                   "storage of the linear layers: f32, bf16 or f16 (as in the files; with --calibrate f32 or bf16)")
        ->transform(command_line::one_of<StorageType>(
            {{"f32", StorageType::f32}, {"bf16", StorageType::bf16}, {"f16", StorageType::f16}}))
        ->option_text("f32|bf16|f16");
    app.add_option("--threads", arguments.threads, "threads to use; 0 for all")->check(command_line::thread_count());
    app.add_option("--json", arguments.json, "also write what was measured to this file");
    app.add_flag("--quiet", arguments.quiet, "print results and errors only");
    app.footer(kExamples);
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& success) {
        app.exit(success);  // prints the help
        throw;
    }
    arguments.mode = mode_of(app, arguments.type);
    if (arguments.mode == Mode::calibrate) {
        arguments.text = calibration_text;
        if (arguments.tokens.value_or(arguments.calibration.tokens) < arguments.window) {
            throw CLI::ValidationError("--tokens must be at least one window: " + std::to_string(arguments.window));
        }
    }
    if (!speed.empty()) {
        arguments.prefill = speed[0];
        arguments.decode = speed[1];
    }
    return arguments;
}

}  // namespace engine
