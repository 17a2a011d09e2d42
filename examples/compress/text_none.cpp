// compress without the engine of `generate`.
#include "text.hpp"

#include <lowrank/error.hpp>

#include <string>

PreparedText read_text(const std::filesystem::path& /*model*/, const TextOptions& /*options*/, bool /*quiet*/) {
    throw lowrank::BackendError(
        std::string("this program was built without PCRE2 and utf8proc, so --text cannot be had") + kOtherStatistics);
}
