//! Acts for guests on the network and on granted folders, under policy.
