//! `stockade serve`: a configuration file put to work, reloaded and watched.
