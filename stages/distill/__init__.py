"""The method, one file per idea: pairs, whitening, fusion, prototypes, student; losses/: one each."""
