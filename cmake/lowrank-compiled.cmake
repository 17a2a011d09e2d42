# lowrank::compiled - the library with its heavy parts compiled once. Not installed as a binary but built in the project
# that links it, with its compiler and flags, so that no two units disagree on them; and only where something links it.
if(NOT TARGET lowrank::compiled)
    add_library(lowrank_compiled STATIC EXCLUDE_FROM_ALL
        ${CMAKE_CURRENT_LIST_DIR}/compiled/decompose.cpp ${CMAKE_CURRENT_LIST_DIR}/compiled/decompose_calibrated.cpp
        ${CMAKE_CURRENT_LIST_DIR}/compiled/eigen_solvers.cpp ${CMAKE_CURRENT_LIST_DIR}/compiled/forward.cpp
        ${CMAKE_CURRENT_LIST_DIR}/compiled/products.cpp)
    add_library(lowrank::compiled ALIAS lowrank_compiled)
    target_compile_definitions(lowrank_compiled PUBLIC LOWRANK_COMPILED LOWRANK_COMPILED_EIGEN)
    target_link_libraries(lowrank_compiled PUBLIC lowrank::lowrank)
    if(TARGET lowrank::checkpoint)
        target_sources(lowrank_compiled PRIVATE ${CMAKE_CURRENT_LIST_DIR}/compiled/json.cpp)
        target_compile_definitions(lowrank_compiled PUBLIC LOWRANK_COMPILED_JSON)
        target_link_libraries(lowrank_compiled PRIVATE lowrank::checkpoint)
    endif()
    # A shared library may take it in. Its parts are compiled side by side.
    set_target_properties(lowrank_compiled PROPERTIES POSITION_INDEPENDENT_CODE ON UNITY_BUILD OFF)
endif()
