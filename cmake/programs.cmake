# What the project's own programs and tests are compiled with; users of the library get none of it.
add_library(lowrank_warnings INTERFACE)
target_compile_options(lowrank_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion)
if(LOWRANK_WARNINGS_AS_ERRORS)
    target_compile_options(lowrank_warnings INTERFACE -Werror)
endif()
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_CXX_EXTENSIONS OFF)

# Eigen's solvers, compiled once for all programs.
add_subdirectory(examples/eigen_solvers)
