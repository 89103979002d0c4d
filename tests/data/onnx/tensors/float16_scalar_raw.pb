
BtJ0