# Library and tool helpers: two kinds of code live here, compiler code (links
# the MLIR and LLVM shared libraries, built with LLVM's flags: no exceptions,
# RTTI as LLVM was built) and run-time code (plain C++, no LLVM include).

function(delta_llvm_flags target)
  if(NOT LLVM_ENABLE_RTTI)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>)
  endif()
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>)
  # Debian's libraries are built with NDEBUG, which changes the layout of some
  # MLIR classes: every build type must agree with them.
  target_compile_definitions(${target} PRIVATE NDEBUG ${LLVM_DEFINITIONS_LIST})
endfunction()

separate_arguments(LLVM_DEFINITIONS_LIST NATIVE_COMMAND "${LLVM_DEFINITIONS}")
list(TRANSFORM LLVM_DEFINITIONS_LIST REPLACE "^-D" "")

# delta_add_library(NAME SRC... [LINK lib...] [DEPENDS target...])
function(delta_add_library name)
  cmake_parse_arguments(ARG "" "" "LINK;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  delta_llvm_flags(${name})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} MLIR LLVM)
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
endfunction()

# Run-time code: no LLVM flags, no LLVM libraries.
function(delta_add_runtime_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
endfunction()

# delta_add_tool(NAME SRC... [LINK lib...])
function(delta_add_tool name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  delta_llvm_flags(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  install(TARGETS ${name} RUNTIME DESTINATION bin)
  # What the lit suite is rebuilt for.
  set_property(GLOBAL APPEND PROPERTY DELTA_TOOLS ${name})
endfunction()
