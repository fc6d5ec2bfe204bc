"""Networks, one family a file: plain torch, no file formats."""
