//! libmemif 3.1.
