"""The method, one file per idea: views, pairs, whitening, fusion, prototypes, loss, student."""
