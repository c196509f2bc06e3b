"""What every room uses: clock, errors, files, device, allocator, compiled functions, options, terminal. Imports nothing above it."""
