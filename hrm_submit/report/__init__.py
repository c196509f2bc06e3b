"""What a person looks at: grids as pictures, a report of a run, and a run followed while it goes on."""
