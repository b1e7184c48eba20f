# Debian packages, one for each role: `make deb`. Configured with the prefix /usr (the preset
# package), so that the library lies where this distribution looks for it.
set(packages router worker client library dev)
set(CPACK_DEBIAN_ROUTER_PACKAGE_NAME gaggle-router)
set(CPACK_DEBIAN_WORKER_PACKAGE_NAME gaggle-worker)
set(CPACK_DEBIAN_CLIENT_PACKAGE_NAME gaggle)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libgaggle0)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME libgaggle-dev)
set(CPACK_COMPONENT_ROUTER_DESCRIPTION "Router of gaggle, which serves large language models
It takes requests from clients, places them on workers, which dial out to it,
and streams their answers back. A worker or a link that dies costs no token.")
set(CPACK_COMPONENT_WORKER_DESCRIPTION "Worker of gaggle, which serves large language models
One process for each device: it loads a Hugging Face folder, dials a router and
answers. This package runs models on the CPU; gaggle-worker-cuda adds GPUs.")
set(CPACK_COMPONENT_CLIENT_DESCRIPTION "Command line of gaggle, which serves large language models
Chats and completes, shows and drains workers, fetches models, makes keys and
certificates, and starts a whole server on one machine (gaggle up).")
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "Client library of gaggle
Asks a gaggle router for answers and streams them, over tcp, TLS or WebSocket,
and goes on where it was when a link breaks. This is the shared library.")
set(CPACK_COMPONENT_DEV_DESCRIPTION "Client library of gaggle, for development
Asks a gaggle router for answers and streams them, over tcp, TLS or WebSocket.
This has the header, the static library and the file for pkg-config.")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libgaggle0 (= ${PROJECT_VERSION}-1)")
set(CPACK_DEBIAN_DEV_PACKAGE_SUGGESTS "libnng-dev, libuv1-dev, libprotobuf-c-dev, libjansson-dev")
set(CPACK_DEBIAN_ROUTER_PACKAGE_DEPENDS "adduser, procps")
set(CPACK_DEBIAN_WORKER_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_WORKER_PACKAGE_RECOMMENDS gaggle) # it pulls models
set(CPACK_DEBIAN_CLIENT_PACKAGE_RECOMMENDS "gaggle-router, gaggle-worker")

# NVIDIA's packages carry cuBLAS, under names with a version; Debian's and Ubuntu's own one for 12.
if(GAGGLE_CUDA)
  list(APPEND packages worker-cuda)
  set(CPACK_DEBIAN_WORKER-CUDA_PACKAGE_NAME gaggle-worker-cuda)
  set(CPACK_COMPONENT_WORKER-CUDA_DESCRIPTION "GPU kernels of gaggle, which serves large language models
The CUDA backend of gaggle-worker, for NVIDIA GPUs from Turing (T4) on. It is
loaded where there is a driver.")
  set(cublas "libcublas-${CUDAToolkit_VERSION_MAJOR}-${CUDAToolkit_VERSION_MINOR}")
  if(CUDAToolkit_VERSION_MAJOR EQUAL 12)
    string(APPEND cublas " | libcublaslt12")
  endif()
  set(CPACK_DEBIAN_WORKER-CUDA_PACKAGE_SHLIBDEPS OFF)
  set(CPACK_DEBIAN_WORKER-CUDA_PACKAGE_DEPENDS
    "gaggle-worker (= ${PROJECT_VERSION}-1), libc6, libstdc++6, ${cublas}")
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME gaggle)
set(CPACK_PACKAGE_CONTACT "The gaggle authors <gaggle@example.org>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_COMPONENTS_ALL ${packages})
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# So that programs find libgaggle of this build while their dependencies are worked out.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/client)

# -- what belongs to a package beside its programs ---------------------------------------------

set(debian ${PROJECT_SOURCE_DIR}/deploy/debian)
set(made ${PROJECT_BINARY_DIR}/debian)
execute_process(COMMAND gzip -9nc ${debian}/changelog OUTPUT_FILE ${made}-changelog.gz
  COMMAND_ERROR_IS_FATAL ANY)
foreach(package IN LISTS packages)
  string(TOUPPER ${package} key)
  set(doc ${CMAKE_INSTALL_DATADIR}/doc/${CPACK_DEBIAN_${key}_PACKAGE_NAME})
  install(FILES ${debian}/copyright DESTINATION ${doc} COMPONENT ${package})
  install(FILES ${made}-changelog.gz DESTINATION ${doc} COMPONENT ${package}
    RENAME changelog.Debian.gz)
endforeach()

file(CONFIGURE OUTPUT ${made}/shlibs CONTENT "libgaggle 0 libgaggle0 (>= ${PROJECT_VERSION})\n")
file(CONFIGURE OUTPUT ${made}/triggers CONTENT "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA "${made}/shlibs;${made}/triggers")

# Services: a unit, its settings, and the scripts that make their user.
function(gaggle_service package unit)
  install(FILES ${PROJECT_SOURCE_DIR}/deploy/systemd/${unit} DESTINATION lib/systemd/system
    COMPONENT ${package})
  install(FILES ${debian}/${package}.ini DESTINATION /etc/gaggle COMPONENT ${package})
  set(SETTINGS /etc/gaggle/${package}.ini)
  string(REPLACE "@." "@*." UNITS ${unit})
  set(control ${made}/${package})
  file(CONFIGURE OUTPUT ${control}/conffiles CONTENT "${SETTINGS}\n")
  foreach(script postinst prerm postrm)
    configure_file(${debian}/${script}.in ${control}/${script} @ONLY
      FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
                       WORLD_READ WORLD_EXECUTE)
    list(APPEND scripts ${control}/${script})
  endforeach()
  string(TOUPPER ${package} key)
  set(CPACK_DEBIAN_${key}_PACKAGE_CONTROL_EXTRA "${control}/conffiles;${scripts}" PARENT_SCOPE)
endfunction()

# A plain `make install` leaves the machine's services alone.
if(CMAKE_INSTALL_PREFIX STREQUAL /usr)
  gaggle_service(router gaggle-router.service)
  gaggle_service(worker gaggle-worker@.service)
endif()

include(CPack)
