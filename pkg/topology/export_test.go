package topology

// KeepInterval is how often Keep looks.
const KeepInterval = keepInterval
