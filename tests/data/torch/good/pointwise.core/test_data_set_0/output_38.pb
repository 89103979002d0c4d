J0๊ธBF Ac##A`งย
Yฉ@|สรDฒBป็Bu$รศเBCJoBีฺC