// lowrank - errors: one root type, and one subclass for each kind of cause.
// SPDX-License-Identifier: MIT
//
// Every failure that a caller can bring about is thrown as one of these, with a message that names the tensor
// (or the file) and the sizes, and says what to do. Nothing here aborts, and no destructor throws.
//
//     try { ... } catch (const lowrank::Error& e) { std::cerr << "error: " << e.what() << '\n'; }
#pragma once

#include <stdexcept>
#include <string>

namespace lowrank {

class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Sizes that do not fit together: rows, columns, leading dimensions, workspaces.
class ShapeError : public Error {
public:
    using Error::Error;
};

/// A value outside its domain: a rank of 0, a NaN in a weight, a share above 1.
class ValueError : public Error {
public:
    using Error::Error;
};

/// A file whose contents break its format.
class FormatError : public Error {
public:
    using Error::Error;
};

/// The operating system refused: a missing file, a full disk, no permission.
class IoError : public Error {
public:
    using Error::Error;
};

/// A backend failed or cannot do what is asked: an instruction set, a device, a solver that did not converge.
class BackendError : public Error {
public:
    using Error::Error;
};

}  // namespace lowrank
