# Script: writes OUT, one C++ initialiser { "name", "text" } for each of SPECS.
# A piece of a raw string stays below the 64 KiB that compilers must accept.
set(content "")
foreach(spec IN LISTS SPECS)
  get_filename_component(name "${spec}" NAME_WE)
  file(READ "${spec}" text)
  string(APPEND content "{\"${name}\", R\"delta(${text})delta\"},\n")
endforeach()
file(WRITE "${OUT}" "${content}")
