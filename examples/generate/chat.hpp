// generate - the chat form of a model, where it is ChatML: <|im_start|>ROLE, line, text, <|im_end|>, line.
// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace engine {

class ChatForm {
public:
    static constexpr const char* kEnd = "<|im_end|>";

    /// From FOLDER/chat_template.jinja, or "chat_template" in FOLDER/tokenizer_config.json. Nothing if there is
    /// neither. Throws FormatError for a template of another form.
    static std::optional<ChatForm> load(const std::filesystem::path& folder);

    /// The text whose continuation is the answer to `prompt`. `system` replaces the template's own system text.
    [[nodiscard]] std::string render(std::string_view prompt, const std::optional<std::string>& system) const;

    /// The system text that the template gives a chat without one.
    [[nodiscard]] const std::optional<std::string>& system() const { return system_; }

private:
    std::optional<std::string> system_;
};

}  // namespace engine
