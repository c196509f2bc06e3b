"""The ground floor: errors, clock, configuration, run folder, device capability. Imports nothing above it."""
