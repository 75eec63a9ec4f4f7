//! The configuration file of `stockade serve`: read, checked, described.
