"""Pure arithmetic: speeds and sizes in, shares and end times out. Nothing of torch, no clock, no files."""
