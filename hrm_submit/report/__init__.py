"""What a person looks at: grids as pictures, a report of a run, and a view of a running one."""
