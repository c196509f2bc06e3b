"""What every room uses: clock, errors, files, device, compiled functions, options, terminal. Imports nothing above it."""
