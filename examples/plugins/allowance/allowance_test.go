package main

import (
	"testing"
	"time"
)

func TestAnAllowanceIsForEachSecond(t *testing.T) {
	var w window
	for _, step := range []struct {
		now     time.Duration
		granted bool
	}{
		{5 * time.Second, true},
		{5*time.Second + 400*time.Millisecond, true},
		{5*time.Second + 999*time.Millisecond, false},
		{6 * time.Second, true},
		{6 * time.Second, true},
		{6 * time.Second, false},
		{9 * time.Second, true},
	} {
		next, granted := w.take(step.now, 2)
		if granted != step.granted {
			t.Fatalf("at %v: granted is %v", step.now, granted)
		}
		w = next
	}
}

func TestAnAllowanceOfNothingGrantsNothing(t *testing.T) {
	if _, granted := window(0).take(time.Second, 0); granted {
		t.Fatal("granted")
	}
}
