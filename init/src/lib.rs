//! (see docs/DESIGN.md)
