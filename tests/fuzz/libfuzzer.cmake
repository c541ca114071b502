# The readers of files once more, with libFuzzer's counters and sanitizers, and a program a target.
set(FUZZ_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g)
file(GLOB FUZZ_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/core/*.cc ${PROJECT_SOURCE_DIR}/runtime/files/*.cc
     ${PROJECT_SOURCE_DIR}/runtime/checkpoint/*.cc ${PROJECT_SOURCE_DIR}/runtime/data/indexed_*.cc)
# It copies tensors, which takes the kernels, and reads nothing.
list(FILTER FUZZ_SOURCES EXCLUDE REGEX "/shard_snapshot\\.cc$")
add_library(fuzz_readers STATIC EXCLUDE_FROM_ALL file_targets.cc ${FUZZ_SOURCES}
                                                 ${PROJECT_SOURCE_DIR}/parallel/parameter_record.cc)
target_compile_options(fuzz_readers PUBLIC ${FUZZ_FLAGS} PRIVATE -fsanitize=fuzzer-no-link)
target_include_directories(fuzz_readers PRIVATE ${RANDOM123_INCLUDE})
if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 16)
  target_include_directories(fuzz_readers BEFORE PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/compat)
endif()
target_link_libraries(fuzz_readers PUBLIC sluice_configs nlohmann_json::nlohmann_json GTest::gmock PkgConfig::XXHASH
                                          Threads::Threads)

add_custom_target(fuzzers)
foreach(TARGET IndexedDataset Safetensors Manifest ShardIndex)
  add_executable(fuzz_${TARGET} EXCLUDE_FROM_ALL libfuzzer_main.cc)
  target_compile_definitions(fuzz_${TARGET} PRIVATE FUZZ_TARGET="${TARGET}")
  target_link_libraries(fuzz_${TARGET} PRIVATE fuzz_readers)
  target_link_options(fuzz_${TARGET} PRIVATE -fsanitize=fuzzer,address,undefined)
  add_dependencies(fuzzers fuzz_${TARGET})
  add_test(NAME fuzz.${TARGET} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/libfuzzer.sh $<TARGET_FILE:fuzz_${TARGET}> 5)
  set_tests_properties(fuzz.${TARGET} PROPERTIES LABELS fuzz)
endforeach()
