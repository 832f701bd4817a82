package main

import (
	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/notify"
)

// openNotifications makes what tells people of the fleet, where somebody is to be told.
func (s *service) openNotifications() (err error) {
	n := s.cfg.Notify
	if n.URL == "" {
		return nil
	}
	s.notifier, err = notify.New(notify.Config{
		URL: string(n.URL), Secret: string(n.Secret), Template: string(n.Template), On: n.On,
		Queue: n.Queue, Every: n.Every, Timeout: n.Timeout, Grace: n.Grace,
		Retry:  notify.Retry{Base: n.RetryBase, Cap: n.RetryCap, Total: n.RetryTotal},
		Logger: s.log,
	})
	if err != nil {
		return &config.UsageError{Err: err}
	}
	s.announcer, err = control.NewAnnouncer(control.AnnouncerConfig{
		Watcher: s.watcher, KV: s.bucket, Tell: func(a control.Announcement) { s.notifier.Notify(noticeOf(a)) }, Logger: s.log,
	})
	return err
}

// noticeOf makes a notice of a pause, or of its end.
func noticeOf(a control.Announcement) notify.Notice {
	n := notify.Notice{Kind: notify.Resumed, Group: a.Pause.Group, Cause: string(a.Pause.Cause)}
	if n.Group == control.AllGroups {
		n.Group = ""
	}
	if a.Paused {
		n.Kind = notify.Paused
		if a.Pause.Cause == control.ByBreaker {
			n.Kind = notify.Breaker
		}
		n.By, n.Why, n.At, n.Until = a.Pause.By, a.Pause.Why, a.Pause.Since, a.Pause.Until
	}
	return n
}

// notifySettled tells people of a dead letter.
func (s *service) notifySettled(r handler.Report) {
	if s.notifier == nil || !r.Buried() {
		return
	}
	o := r.Outcome
	s.notifier.Notify(notify.Notice{
		Kind: notify.DeadLetter, Group: o.Group, Host: o.Host, ID: o.ID, Cause: string(o.Reason), By: s.name, Detail: o.Detail, At: o.At,
	})
}
