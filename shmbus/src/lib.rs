//! shmbus
