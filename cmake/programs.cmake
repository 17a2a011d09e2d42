# What the project's own programs and tests are compiled with; users of the library get none of it.
add_library(lowrank_warnings INTERFACE)
target_compile_options(lowrank_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion)
if(LOWRANK_WARNINGS_AS_ERRORS)
    target_compile_options(lowrank_warnings INTERFACE -Werror)
endif()
# For what mostly calls lowrank::compiled: compiles in a quarter less time than with -O3.
set(caller_options $<$<CONFIG:Release>:-O2>)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_CXX_EXTENSIONS OFF)

target_link_libraries(lowrank_compiled PRIVATE lowrank_warnings)
# Checks of undefined behaviour are for our code, not for Eigen's. AddressSanitizer has to stay: Eigen allocates in another
# way under it, and all units of a program must agree on that.
set_source_files_properties(${PROJECT_SOURCE_DIR}/cmake/compiled/eigen_solvers.cpp TARGET_DIRECTORY lowrank_compiled
                            PROPERTIES COMPILE_OPTIONS -fno-sanitize=undefined)
