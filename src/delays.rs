//! delays
