//! Files that change while running.
