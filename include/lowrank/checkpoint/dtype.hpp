// lowrank - the element types of safetensors files: their sizes, and which of them are this library's scalars.
// SPDX-License-Identifier: MIT
//
// A type that is not listed here (the 8-bit floats and whatever comes later) is legal in a file: its bytes pass
// through untouched, and only its size cannot be checked against its shape.
#pragma once

#include <lowrank/scalar.hpp>

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace lowrank {

/// Bytes of one element, or 0 for a type that this library does not know.
constexpr std::size_t dtype_size(std::string_view dtype) {
    if (dtype == "BOOL" || dtype == "U8" || dtype == "I8") return 1;
    if (dtype == "BF16" || dtype == "F16" || dtype == "U16" || dtype == "I16") return 2;
    if (dtype == "F32" || dtype == "U32" || dtype == "I32") return 4;
    if (dtype == "F64" || dtype == "U64" || dtype == "I64") return 8;
    return 0;
}

/// The file's word for T.
template <Scalar T>
constexpr std::string_view dtype_name() {
    if constexpr (std::is_same_v<T, float>) return "F32";
    if constexpr (std::is_same_v<T, double>) return "F64";
    if constexpr (std::is_same_v<T, bf16>) return "BF16";
    if constexpr (std::is_same_v<T, f16>) return "F16";
}

/// Calls `f(std::type_identity<T>{})` with the Scalar type T that `dtype` names, and returns true; false if it names
/// none.
template <class F>
constexpr bool visit_scalar(std::string_view dtype, F&& f) {
    if (dtype == "F32") return f(std::type_identity<float>{}), true;
    if (dtype == "F64") return f(std::type_identity<double>{}), true;
    if (dtype == "BF16") return f(std::type_identity<bf16>{}), true;
    if (dtype == "F16") return f(std::type_identity<f16>{}), true;
    return false;
}

/// Whether the elements are of one of this library's Scalar types, so that a layer of them can be factorised.
constexpr bool is_scalar_dtype(std::string_view dtype) {
    return visit_scalar(dtype, [](auto) {});
}

}  // namespace lowrank
