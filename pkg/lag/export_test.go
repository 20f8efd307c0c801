package lag

// Expire makes the next snapshot a fresh one.
func (r *Reader) Expire() {
	r.one <- struct{}{}
	r.last = nil
	<-r.one
}
