# cmake -DBINARY=… -DOUT=… -P pages.cmake: one manual page a command and one completion a shell, printed by the binary.
file(MAKE_DIRECTORY ${OUT}/man1)

function(print file)
  execute_process(COMMAND ${BINARY} ${ARGN} OUTPUT_FILE ${file} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

foreach(shell bash zsh fish)
  print(${OUT}/polestar.${shell} completion ${shell})
endforeach()
print(${OUT}/man1/polestar.1 man)
execute_process(COMMAND ${BINARY} man OUTPUT_VARIABLE overview COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "fBpolestar ([a-z]+)" rows "${overview}")
foreach(row ${rows})
  string(REPLACE "fBpolestar " "" command "${row}")
  print(${OUT}/man1/polestar-${command}.1 man ${command})
endforeach()
