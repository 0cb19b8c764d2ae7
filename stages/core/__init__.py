"""What everyone may use and what changes least: parameters, files, records, pictures, layers."""
