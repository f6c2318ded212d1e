//! busctl
