//! What WeChat's answer means.
