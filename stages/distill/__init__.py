"""The method, one file an idea: pairs, whitening, fusion, prototypes, student, losses."""
