//! Holds no code: its manifest asks for the features of dependencies that the whole workspace asks for.
