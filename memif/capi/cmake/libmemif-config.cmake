# find_package(libmemif) makes the target libmemif::memif, from the pkg-config file that is installed
# beside it.
include(CMakeFindDependencyMacro)
find_dependency(PkgConfig)

# <prefix>/<lib>/cmake/libmemif/ is where this file is.
get_filename_component(_libmemif_lib "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
set(_libmemif_path "$ENV{PKG_CONFIG_PATH}")
set(ENV{PKG_CONFIG_PATH} "${_libmemif_lib}/pkgconfig:${_libmemif_path}")
pkg_check_modules(_libmemif REQUIRED QUIET IMPORTED_TARGET GLOBAL libmemif)
set(ENV{PKG_CONFIG_PATH} "${_libmemif_path}")

if(NOT TARGET libmemif::memif)
  add_library(libmemif::memif INTERFACE IMPORTED)
  set_target_properties(libmemif::memif PROPERTIES INTERFACE_LINK_LIBRARIES PkgConfig::_libmemif)
endif()
unset(_libmemif_lib)
unset(_libmemif_path)
