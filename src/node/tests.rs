//! A leader, a follower and clients in one process.
