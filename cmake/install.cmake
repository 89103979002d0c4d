# make install: headers, library, binary, and what other builds find them by (pkg-config, find_package(polestar)).
include(CMakePackageConfigHelpers)

target_include_directories(polestar INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(TARGETS polestar EXPORT polestarTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/polestar DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
if(TARGET polestar_bin)
  install(TARGETS polestar_bin RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/polestar)
install(EXPORT polestarTargets NAMESPACE polestar:: DESTINATION ${config_dir})
file(CONFIGURE OUTPUT polestarConfig.cmake @ONLY
  CONTENT "include(\"\${CMAKE_CURRENT_LIST_DIR}/polestarTargets.cmake\")\n")
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/polestarConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/polestarConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/polestarConfigVersion.cmake
  DESTINATION ${config_dir})

# The prefix is relative to the .pc file, so that an installed tree may be moved.
file(RELATIVE_PATH to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_SOURCE_DIR}/cmake/polestar.pc.in polestar.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/polestar.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Two small networks of our own, for `polestar demo compression`.
foreach(model med-ct-seg-synth med-mri-cls3d-synth)
  install(FILES ${CMAKE_SOURCE_DIR}/tests/models/${model}/model.onnx DESTINATION ${CMAKE_INSTALL_DATADIR}/polestar/models/${model})
endforeach()

# Manual pages and completions are printed by the binary from its command table; a cross-build cannot run it.
if(TARGET polestar_bin AND NOT CMAKE_CROSSCOMPILING)
  set(pages ${CMAKE_BINARY_DIR}/share)
  add_custom_command(OUTPUT ${pages}/stamp
    COMMAND ${CMAKE_COMMAND} -DBINARY=$<TARGET_FILE:polestar_bin> -DOUT=${pages} -P ${CMAKE_SOURCE_DIR}/cmake/pages.cmake
    COMMAND ${CMAKE_COMMAND} -E touch ${pages}/stamp
    DEPENDS polestar_bin ${CMAKE_SOURCE_DIR}/cmake/pages.cmake VERBATIM)
  add_custom_target(polestar_pages ALL DEPENDS ${pages}/stamp)
  install(DIRECTORY ${pages}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
  install(FILES ${pages}/polestar.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME polestar)
  install(FILES ${pages}/polestar.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _polestar)
  install(FILES ${pages}/polestar.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
