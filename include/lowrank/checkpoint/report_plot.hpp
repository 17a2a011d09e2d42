// lowrank - a compression report as a picture: what each layer keeps, and what it loses (SVG).
// SPDX-License-Identifier: MIT
//
// Layers from left to right in the order of the report, coloured by the last part of their name. Above, the part of
// each layer's parameters that is kept (1: dense); below, its error. The same report gives the same bytes.
#pragma once

#include <lowrank/checkpoint/atomic_file.hpp>
#include <lowrank/checkpoint/report.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace lowrank {

namespace detail {

/// "q_proj" of "model.layers.0.self_attn.q_proj".
inline std::string_view last_component(std::string_view module) {
    return module.substr(module.rfind('.') + 1);  // npos + 1 is 0
}

inline std::string xml_text(std::string_view text) {
    std::string result;
    for (const char c : text) {
        if (c == '&' || c == '<' || c == '>' || static_cast<unsigned char>(c) < 0x20) {
            result += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : " ";
        } else {
            result += c;
        }
    }
    return result;
}

class ReportPlot {
public:
    explicit ReportPlot(const CompressReport& report) : report_(report) {
        for (const CompressedLayer& layer : report.layers) {
            const std::string kind(last_component(layer.module));
            if (std::find(kinds_.begin(), kinds_.end(), kind) == kinds_.end()) kinds_.push_back(kind);
        }
    }

    std::string svg() {
        const int height = kTop + 2 * kPanel + kGap + 40;
        text_ =
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + std::to_string(kWidth) + "\" height=\"" +
            std::to_string(height) + "\" viewBox=\"0 0 " + std::to_string(kWidth) + " " + std::to_string(height) +
            "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
        legend();
        const bool weighted =
            std::any_of(report_.layers.begin(), report_.layers.end(),
                        [](const CompressedLayer& layer) { return layer.weighted_error.has_value(); });
        panel(kTop, "parameters kept", [](const CompressedLayer& layer) {
            return static_cast<double>(layer.parameters_after()) / static_cast<double>(layer.parameters_before());
        });
        panel(kTop + kPanel + kGap, weighted ? "weighted relative error" : "relative error",
              [&](const CompressedLayer& layer) {
                  return (weighted ? layer.weighted_error : layer.relative_error).value_or(0);
              });
        label(kLeft + kInner / 2, kTop + 2 * kPanel + kGap + 28, "middle", "layer, in the order of the file");
        return text_ + "</svg>\n";
    }

private:
    static constexpr int kWidth = 900;
    static constexpr int kLeft = 60;
    static constexpr int kInner = 820;
    static constexpr int kTop = 50;
    static constexpr int kPanel = 170;
    static constexpr int kGap = 40;
    // Okabe and Ito's palette: told apart by colour-blind readers too.
    static constexpr std::array kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                            "#e69f00", "#56b4e9", "#000000", "#999999"};

    [[nodiscard]] const char* colour(std::string_view module) const {
        const auto at = std::find(kinds_.begin(), kinds_.end(), last_component(module)) - kinds_.begin();
        return kColours[static_cast<std::size_t>(at) % kColours.size()];
    }

    void label(int x, int y, const char* anchor, std::string_view words, const char* fill = "#333333") {
        text_ += "<text x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(y) + "\" text-anchor=\"" + anchor +
                 "\" fill=\"" + fill + "\">" + xml_text(words) + "</text>\n";
    }

    void legend() {
        int x = kLeft;
        for (const std::string& kind : kinds_) {
            text_ += "<rect x=\"" + std::to_string(x) + "\" y=\"14\" width=\"10\" height=\"10\" fill=\"" +
                     colour(kind) + "\"/>\n";
            label(x + 14, 23, "start", kind);
            x += 30 + 7 * static_cast<int>(kind.size());
        }
    }

    template <class Value>
    void panel(int top, const char* title, Value value) {
        label(kLeft, top - 6, "start", title);
        for (const double mark : {0.0, 0.5, 1.0}) {
            const int y = top + static_cast<int>((1 - mark) * kPanel);
            char number[8];
            std::snprintf(number, sizeof(number), "%.1f", mark);
            label(kLeft - 6, y + 4, "end", number);
            text_ += "<path d=\"M" + std::to_string(kLeft) + " " + std::to_string(y) + "h" + std::to_string(kInner) +
                     "\" stroke=\"#dddddd\"/>\n";
        }
        const auto count = static_cast<double>(std::max<std::size_t>(report_.layers.size(), 1));
        for (std::size_t i = 0; i < report_.layers.size(); ++i) {
            const CompressedLayer& layer = report_.layers[i];
            const double x = kLeft + (static_cast<double>(i) + 0.5) * kInner / count;
            const double y = top + (1 - std::clamp(value(layer), 0.0, 1.0)) * kPanel;
            char mark[96];
            std::snprintf(mark, sizeof(mark), "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\">", x, y,
                          colour(layer.module));
            text_ += mark;
            text_ += "<title>" + xml_text(layer.module) + "</title></circle>\n";
        }
    }

    const CompressReport& report_;
    std::vector<std::string> kinds_;
    std::string text_;
};

}  // namespace detail

/// The picture as the text of an SVG file.
inline std::string report_svg(const CompressReport& report) {
    return detail::ReportPlot(report).svg();
}

/// Writes the picture. Throws IoError.
inline void write_report_plot(const CompressReport& report, const std::filesystem::path& path) {
    AtomicFile file(path);
    file.append(report_svg(report));
    file.commit();
}

}  // namespace lowrank
