//! Other tools on the same server.

use std::path::Path;

/// Rows of guidellm and AIPerf.
pub(crate) fn rows(_folder: &Path) {}
