//! The one integration binary: what users touch, file in and report out.

mod check;
