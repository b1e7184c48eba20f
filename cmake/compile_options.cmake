# One set of flags for all our code. Generated code gets its own, laxer target. What an initialiser
# leaves out is zero on purpose: rows of tables name only what they need.
add_compile_definitions(_GNU_SOURCE GAGGLE_VERSION="${PROJECT_VERSION}")

add_library(gaggle_options INTERFACE)
target_include_directories(gaggle_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(gaggle_options INTERFACE
  $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes
    -Wmissing-prototypes -Wvla -Wno-sign-conversion -Wno-missing-field-initializers -Werror
    -fno-omit-frame-pointer>)

# Results must not depend on the compiler's taste: no contraction across expressions, no fast-math.
add_compile_options(-ffp-contract=off)

if(GAGGLE_SANITIZE)
  add_compile_options(-fsanitize=${GAGGLE_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${GAGGLE_SANITIZE})
endif()
if(GAGGLE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()

# gaggle_library(name SOURCES ... LINK ...): a static library of ours.
function(gaggle_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC gaggle_options ${ARG_LINK})
endfunction()

# gaggle_program(target output SOURCES ... LINK ... [PACKAGE name]): an executable, installed with
# that package (packages.cmake), or by a plain install only.
function(gaggle_program target output)
  cmake_parse_arguments(ARG "" "PACKAGE" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_PACKAGE)
    set(ARG_PACKAGE bench)
  endif()
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE gaggle_options ${ARG_LINK})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${output}
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  install(TARGETS ${target} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT ${ARG_PACKAGE})
endfunction()
