// Shows each time in the language and the time zone of the reader. Without this script, times stay in UTC.
for (const time of document.querySelectorAll('time')) {
  time.textContent = new Date(time.dateTime).toLocaleString(undefined, {
    dateStyle: 'medium',
    timeStyle: 'short'
  })
}
