// generate - recognises the ChatML template without a Jinja interpreter.
// SPDX-License-Identifier: MIT
#include "chat.hpp"

#include "json_fields.hpp"

#include <lowrank/error.hpp>

#include <cstddef>

namespace engine {

namespace {

constexpr std::string_view kStart = "<|im_start|>";

std::optional<std::string> read_template(const std::filesystem::path& folder, std::filesystem::path& source) {
    std::error_code error;
    source = folder / "chat_template.jinja";
    if (std::filesystem::exists(source, error)) {
        const lowrank::MappedFile file(source);
        return std::string(lowrank::detail::file_text(file));
    }
    source = folder / "tokenizer_config.json";
    if (!std::filesystem::exists(source, error)) return std::nullopt;
    const Json json = read_json(source);
    Fields fields(json, source);
    if (fields.find("chat_template") == nullptr) return std::nullopt;
    return fields.text("chat_template");
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
        text.replace(at, from.size(), to);
    }
}

std::string message(std::string_view role, std::string_view text) {
    return std::string(kStart) + std::string(role) + "\n" + std::string(text) + ChatForm::kEnd + "\n";
}

}  // namespace

std::optional<ChatForm> ChatForm::load(const std::filesystem::path& folder) {
    std::filesystem::path source;
    std::optional<std::string> found = read_template(folder, source);
    if (!found) return std::nullopt;
    // The template writes a line's end as itself or as an escape, and glues texts with or without spaces.
    replace_all(*found, "\\n", "\n");
    replace_all(*found, "\"", "'");
    std::string glued = *found;
    replace_all(glued, " + ", "+");
    replace_all(glued, "'+'", "");
    replace_all(glued, "message.role", "message['role']");
    replace_all(glued, "message.content", "message['content']");
    if (glued.find("'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n'") == std::string::npos) {
        throw lowrank::FormatError(lowrank::detail::path_text(source) +
                                   ": this chat template is not supported, only ChatML is; use --raw, and write the "
                                   "template's tokens into the prompt");
    }
    ChatForm form;
    constexpr std::string_view opening = "'<|im_start|>system\n";
    const std::size_t begin = found->find(opening);
    if (begin != std::string::npos) {
        const std::size_t text = begin + opening.size();
        const std::size_t end = found->find(kEnd, text);
        if (end != std::string::npos) form.system_ = found->substr(text, end - text);
    }
    return form;
}

std::string ChatForm::render(std::string_view prompt, const std::optional<std::string>& system) const {
    std::string text;
    const std::optional<std::string>& used = system ? system : system_;
    if (used) text += message("system", *used);
    return text + message("user", prompt) + std::string(kStart) + "assistant\n";
}

}  // namespace engine
