# find_package(libmemif) makes the target libmemif::memif, from the pkg-config file that is installed
# with it.
include(CMakeFindDependencyMacro)
find_dependency(PkgConfig)

# This file is in <prefix>/share/cmake/libmemif. pkg_check_modules looks below the prefix.
get_filename_component(_libmemif_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_libmemif_prefixes "${CMAKE_PREFIX_PATH}")
list(APPEND CMAKE_PREFIX_PATH "${_libmemif_prefix}")
pkg_check_modules(_libmemif REQUIRED QUIET IMPORTED_TARGET GLOBAL libmemif)
set(CMAKE_PREFIX_PATH "${_libmemif_prefixes}")

if(NOT TARGET libmemif::memif)
  add_library(libmemif::memif INTERFACE IMPORTED)
  set_target_properties(libmemif::memif PROPERTIES INTERFACE_LINK_LIBRARIES PkgConfig::_libmemif)
endif()
unset(_libmemif_prefix)
unset(_libmemif_prefixes)
