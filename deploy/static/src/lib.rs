//! Nothing: see the manifest beside it.
