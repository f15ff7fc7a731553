package builder

// Observer is told what a build does, from several goroutines at once. It
// keeps the time: the packages below cmd know no clock.
type Observer interface {
	// StageStarted says that a stage's work begins.
	StageStarted(stage string)
	// StageProgress says how many bytes of how many are done; total is 0
	// where it isn't known. It is called often.
	StageProgress(stage string, done, total int64)
	// StageDone ends a stage; cached says that its result was there already.
	StageDone(stage string, cached bool, err error)
	// Notice passes on something the user should know.
	Notice(text string)
}
