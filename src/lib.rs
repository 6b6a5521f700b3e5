//! wechat-notifier
