//! Modules of Node for guests, made of packages of npm and of the web platform: source text that costs nothing until it
//! is imported.

include!(concat!(env!("OUT_DIR"), "/node_modules.rs"));
