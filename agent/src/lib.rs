//! Skep, the agent.
